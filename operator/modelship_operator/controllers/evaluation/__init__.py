"""ModelEvaluation: measure an artifact in Jobs, judge the numbers, keep the verdict."""
