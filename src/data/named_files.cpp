// A case whose files are named one by one.
#include "layouts.h"
#include "segmamba/core/error.h"
#include "segmamba/core/text.h"

namespace segmamba::data {

Dataset dataset_of_files(const DatasetConfig& config, const std::string& case_name,
                         const std::vector<std::string>& files) {
  check_names(config);
  check_case_name(case_name, "the case's name");
  Case item{.name = case_name,
            .patient = patient_of(case_name),
            .images = std::vector<ChannelFile>(config.channels.size()),
            .labels = {}};
  for (const auto& file : files) {
    const std::size_t equals = file.find('=');
    if (equals == std::string::npos || equals + 1 == file.size()) {
      throw Error(concat("'", file, "' is not CHANNEL=PATH, such as t1c=scan.nii.gz"));
    }
    const std::string name = file.substr(0, equals);
    const std::string wanted = canonical_channel(name);
    std::size_t channel = 0;
    while (channel < config.channels.size() &&
           canonical_channel(config.channels[channel]) != wanted) {
      ++channel;
    }
    if (channel == config.channels.size()) {
      throw Error(concat(file, ": there is no channel '", name, "'; there are ",
                         join(config.channels, ", ")));
    }
    const std::size_t bytes = file.size() - equals - 1;
    if (bytes > kLongestPath) {
      throw Error(concat("channel ", config.channels[channel], ": a path of ", bytes, " bytes; ",
                         kLongestPath, " are possible"));
    }
    const std::filesystem::path path = file.substr(equals + 1);
    auto& target = item.images[channel].path;
    if (!target.empty()) {
      throw Error(concat("channel ", config.channels[channel], " is given twice: ", target.string(),
                         " and ", path.string()));
    }
    if (!is_file_or_folder(path)) {
      throw Error(
          concat("channel ", config.channels[channel], ": ", path.string(), " does not exist"));
    }
    target = path;
  }
  std::vector<std::string> missing;
  for (std::size_t channel = 0; channel < config.channels.size(); ++channel) {
    if (item.images[channel].path.empty()) missing.push_back(config.channels[channel]);
  }
  if (!missing.empty()) {
    throw Error(concat("case ", case_name, ": no file for ", join(missing, ", "), "; give ",
                       missing.front(), "=PATH"));
  }
  return {.layout = "files",
          .channels = config.channels,
          .classes = config.classes,
          .class_map = assume_classes(config.classes, parse_label_map(config)),
          .cases = {std::move(item)}};
}

}  // namespace segmamba::data
