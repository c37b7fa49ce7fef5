"""Imports: a file of products, staged as it comes and worked slice by slice. ADR 0011."""
