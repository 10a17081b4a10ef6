"""Container images of model versions: what to build, and how, as pure functions of a version. No Django in here."""
