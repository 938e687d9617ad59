"""The commands of `orchard`, a file a subject; each registers its own with the application."""
