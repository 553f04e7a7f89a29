#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "segmamba/core/json.h"
#include "segmamba/nn/model_config.h"

namespace segmamba::nn {

// The config of the network that an original's constructor would make of `arguments` (a JSON object
// in the original's words, as the golden files have it; the names of our keys serve as well).
// `model` is a name of model_names(), "mednext_k3" or "mednext_k5".
// What is left out is as the original's constructor has it, and so is null where that is None; but
// where no layer of nnU-Net's family is named, they are those of its plans.
// Throws Error naming `origin` and the argument that is unknown or asks for what the network here
// does not have.
ModelConfig config_from_upstream(const std::string& model, const Json& arguments,
                                 const std::string& origin);

// Blocks of originals that golden files hold by themselves: "vim_blocks" and "vmamba_block_2d".
struct VimBlocksConfig {
  std::int64_t depth = 0, length = 0, dim = 0;  // must be given
  std::int64_t d_state = 16;
  bool if_divide_out = false;
  void visit(ConfigVisitor& v);
};
struct VssBlockConfig {
  std::int64_t dim = 0;  // must be given
  std::int64_t d_state = 16;
  double ssm_ratio = 2, mlp_ratio = 4;
  bool conv_bias = true;
  std::string forward_type = "v05_noz";
  bool channel_first = true;  // images [B, C, H, W], else [B, H, W, C]
  void visit(ConfigVisitor& v);
};

// The same for them.
VimBlocksConfig vim_blocks_from_upstream(const Json& arguments, const std::string& origin);
VssBlockConfig vmamba_block_2d_from_upstream(const Json& arguments, const std::string& origin);

// An error of make_model() or a block, which names keys of ours ("model.in_channels"), with the
// names of the original's arguments ("in_chans").
std::string in_words_of_original(std::string text, const std::string& model);

// An integer, also one that is written 2.0; nothing where the value is none.
std::optional<Json> json_integer(const Json& value);

}  // namespace segmamba::nn
