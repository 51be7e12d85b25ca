"""Protein chains with secondary structure, and windows of encoded residues."""
