#pragma once
// All that a program needs to segment images with trained models. Free of LibTorch and fast to
// compile; the rooms have more: segmamba/nn/model.h for networks, segmamba/metrics/score.h for
// scores, segmamba/engine/trainer.h for training.

#include "segmamba/core/error.h"
#include "segmamba/core/half.h"
#include "segmamba/data/dataset.h"
#include "segmamba/data/prepared_case.h"
#include "segmamba/data/preprocess.h"
#include "segmamba/engine/predictor.h"
#include "segmamba/io/volume.h"

namespace segmamba {

using engine::Interrupted;
using engine::Prediction;
using engine::PredictionRequest;
using engine::Predictor;
using engine::PredictorOptions;

}  // namespace segmamba
