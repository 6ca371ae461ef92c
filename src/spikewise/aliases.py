"""Old public words and their new ones."""

WORDS = {"rectangle": "rectangular", "triangle": "triangular"}


def renamed(word):
    return WORDS.get(word, word)
