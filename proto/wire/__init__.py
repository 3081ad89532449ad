"""The contracts of the network: messages, the words they use, and the streams that carry them."""
