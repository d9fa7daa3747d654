"""FACE."""
