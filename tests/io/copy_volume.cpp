// copy_volume image|labels INPUT OUTPUT: reads and writes, for nibabel_test.py.

#include <cstdio>
#include <string>

#include "segmamba/core/error.h"
#include "segmamba/io/volume.h"

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  try {
    if (std::string(argv[1]) == "image") {
      segmamba::io::write_image(argv[3], segmamba::io::read_image(argv[2]));
    } else {
      segmamba::io::write_labels(argv[3], segmamba::io::read_labels(argv[2]));
    }
  } catch (const segmamba::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
