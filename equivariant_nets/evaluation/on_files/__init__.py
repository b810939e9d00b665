"""Poses of the patient measured on files: any model, through the whole path from a NIfTI file to a mask."""
