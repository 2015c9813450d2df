"""The page on personal data, made of what `topics/` says of each topic."""
