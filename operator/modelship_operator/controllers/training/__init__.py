"""ModelTraining: one Indexed Job, watched to its end; a file per policy."""
