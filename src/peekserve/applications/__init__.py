"""Three small applications with real data, trained models and a card each: what `peekserve demo` serves."""
