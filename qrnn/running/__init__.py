"""Running a quantized model: sessions, streams, and how long they take."""
