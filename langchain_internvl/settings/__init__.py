"""Settings: what a model is made with (`model`) and what one call may change (`call`)."""
