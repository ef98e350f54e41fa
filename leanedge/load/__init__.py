"""Loads a model of any form that LeanEdge takes, and makes it a Graph."""

from leanedge.load.model import LoadedModel, load_model

__all__ = ["LoadedModel", "load_model"]
