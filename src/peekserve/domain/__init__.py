"""The nouns: frozen values and arithmetic."""
