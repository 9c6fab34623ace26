"""ModelDeployment: prove that an artifact passed, serve exactly its bytes."""
