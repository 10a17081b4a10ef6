"""`pilothouse`: a thin client of the REST API for CI and terminals. Imports neither Django nor the apps."""
