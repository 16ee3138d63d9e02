"""What a repository says about how it wants to run: its Procfile and its app.json, as pure functions of their text."""
