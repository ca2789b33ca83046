"""Case files over the API: ordered, made in the background, fetched in parts, and deleted again after a while."""
