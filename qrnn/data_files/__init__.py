"""Arrays in files: read whole where they fit into memory (`archive`), or piece by piece (`opening`), and written as they come (`sinks`)."""
