#include <segmamba/segmamba.h>

// A program that segments compiles without LibTorch's headers, which take ten seconds a file.
#if defined(TORCH_CHECK) || defined(C10_API) || defined(AT_ERROR)
#error "segmamba.h includes LibTorch"
#endif

#include <gtest/gtest.h>

#include <type_traits>

namespace {

TEST(LibraryHeader, NamesWhatAProgramNeeds) {
  // Copies share the models.
  EXPECT_TRUE(std::is_copy_constructible_v<segmamba::Predictor>);
  EXPECT_EQ(segmamba::PredictorOptions{}.device, "auto");
  EXPECT_FALSE(segmamba::PredictionRequest{}.probabilities);
}

}  // namespace
