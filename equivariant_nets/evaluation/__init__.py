"""Measured quality: scores upright and turned, their tables and plots."""
