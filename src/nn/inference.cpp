#include "segmamba/nn/inference.h"

#include <set>

#include "segmamba/core/error.h"
#include "segmamba/core/text.h"
#include "segmamba/nn/convolution.h"
#include "segmamba/nn/mamba.h"
#include "segmamba/nn/mamba_layer.h"

namespace segmamba::nn {
namespace {

void convert(torch::Tensor& parameter, torch::ScalarType type) {
  if (parameter.defined()) parameter.set_data(parameter.detach().to(type));
}

}  // namespace

void prepare_for_inference(SegmentationModel& model, torch::ScalarType type) {
  if (type != torch::kFloat32 && type != torch::kBFloat16 && type != torch::kHalf) {
    throw Error(concat("a model is prepared for float32, bfloat16 or float16, not for ",
                       torch::toString(type)));
  }
  std::set<torch::nn::Module*> delta_projections;  // whose bias is the scan's
  std::set<torch::nn::Module*> float32;            // projections that stay what they are
  for (const auto& module : model.modules()) {
    if (auto* convolution = module->as<ConvolutionImpl>()) {
      convolution->prepare_for_inference(type);
    } else if (auto* transposed = module->as<TransposedConvolutionImpl>()) {
      transposed->prepare_for_inference(type);
    } else if (auto* mamba = module->as<MambaImpl>()) {
      for (auto& branch : mamba->branches) delta_projections.insert(branch.dt_proj.get());
    } else if (auto* layer = module->as<MambaLayerImpl>(); layer && layer->stays_float32()) {
      for (const auto& inner : layer->modules()) float32.insert(inner.get());
    }
  }
  for (const auto& module : model.modules()) {
    auto* linear = module->as<torch::nn::LinearImpl>();
    if (linear != nullptr && !float32.contains(linear)) {
      convert(linear->weight, type);
      if (!delta_projections.contains(linear)) convert(linear->bias, type);
    }
  }
  model.eval();
  model.set_inference_type(type);
}

bool bfloat16_is_fast() { return has_matrix_unit(torch::kBFloat16); }

}  // namespace segmamba::nn
