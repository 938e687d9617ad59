"""What an evaluation found, as numbers, figures, tables and samples."""
