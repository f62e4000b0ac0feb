"""Standalone C99 from a quantized model: `qrnn.export.folder.export_model` writes the folder, docs/devices.md describes it."""
