"""Measurements of whole models that configs describe."""
