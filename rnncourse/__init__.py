"""Vanilla recurrent networks, backpropagation through time, and what follows from them, in NumPy."""

__version__ = "0.1.0"
