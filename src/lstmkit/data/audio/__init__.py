"""Audio: reading and resampling files, log-mel spectrograms, Griffin-Lim, text-to-speech corpora."""
