"""The network: `network` runs a model of transformers, `attention` packs rows, `loading` builds, loads and saves it."""
