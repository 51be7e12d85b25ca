"""Protein chains with secondary structure, and features of residues."""
