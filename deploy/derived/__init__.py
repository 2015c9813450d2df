"""What the files of `deploy/` repeat from elsewhere, built so that it cannot drift."""
