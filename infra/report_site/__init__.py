"""The reports site: an index of all versions, each one's report, two side by side, and where they come from."""
