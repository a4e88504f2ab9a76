"""The live map: what a node's tunnel tells (`look`), what of it is kept (`board`), and the page (`site`)."""
