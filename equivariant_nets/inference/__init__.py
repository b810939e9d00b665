"""Segmentation of the images of a folder."""
