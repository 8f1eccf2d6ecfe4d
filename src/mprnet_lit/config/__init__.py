"""Hydra configuration: resolvers, instantiation, value checks, error messages."""
