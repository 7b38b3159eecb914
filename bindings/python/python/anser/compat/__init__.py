"""Other packages' names on top of Anser, so that programs move by changing an import."""
