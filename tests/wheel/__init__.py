"""`make test-wheel`: what is shipped, installed by pip where nothing else is.

`root` makes the place by debootstrap and runs commands there, `enter.sh` furnishes it as a container is,
`inside` is an agent's life in it.
"""
