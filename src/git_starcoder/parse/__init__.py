"""Understanding source code with tree-sitter."""
