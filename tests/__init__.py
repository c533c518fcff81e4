"""The tests of ckptstore."""
