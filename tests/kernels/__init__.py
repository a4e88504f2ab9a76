"""The tests of the redirection on other kernels than this machine's."""
