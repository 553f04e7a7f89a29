// The example of the README: segments one case of four files.
#include <segmamba/segmamba.h>

#include <iostream>

int main(int argc, char** argv) try {
  if (argc != 7) throw segmamba::Error("usage: segment CHECKPOINT T1N T1C T2W T2F OUTPUT.nii.gz");
  const auto predictor = segmamba::Predictor::load({argv[1]});
  const auto prediction = predictor.predict_files(
      {{"t1n", argv[2]}, {"t1c", argv[3]}, {"t2w", argv[4]}, {"t2f", argv[5]}});
  segmamba::io::write_labels(argv[6], prediction.labels);
  return 0;
} catch (const segmamba::Error& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
