"""Makes what is shipped from this source tree: a folder that needs no Python (`make dist`) and a package (`make deb`).

| module | what |
|---|---|
| `frozen` | first file of the executable: one program under three names, and the children it starts of itself |
| `r1box.spec` | PyInstaller's description of the folder |
| `native` | how llama.cpp is built so that one build runs on every processor, and which of its files go along |
| `trim` | what PyInstaller collects and nobody needs; stripping |
| `parts` | every part of the folder with version and licence, found in the files themselves |
| `sbom` | the list of parts as CycloneDX |
| `build_info` | what it was made from, hashes of every file |
| `dist` | the steps of `make dist` |
| `deb` | the package's tree and scripts |
| `__main__` | `python -m installer.pack dist|deb` |
"""
