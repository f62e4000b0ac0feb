"""A quantized model is exported as standalone C99: `qrnn.export.folder.export_model` writes the folder, docs/devices.md describes it."""
