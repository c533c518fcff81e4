"""Backends of ckptstore, found through the entry points of group ``ckptstore.backends``."""
