"""The whole network as a person has it: real processes, the real command line, real credentials."""
