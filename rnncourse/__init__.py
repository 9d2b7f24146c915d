"""Vanilla recurrent networks, backpropagation through time and what follows, in NumPy."""

__version__ = "0.1.0"
