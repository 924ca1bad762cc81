"""Chinese text: words, n-grams, word vectors, batches of ids."""
