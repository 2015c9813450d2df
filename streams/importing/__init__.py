"""
Brings records that exist in files into the input topics: read, mapped, checked, sent, verified.
"""
