#pragma once

#include <cstddef>
#include <string>

#include "segmamba/core/json.h"

namespace segmamba {

// Watches the parts of a JSON text pass by before they become values. The parser has callbacks of
// its own, with which an array of objects takes as long as the square of their number.
template <class AnyJson>
class JsonWatcher : public nlohmann::json_sax<AnyJson> {
 public:
  // True where the text is JSON to its end; parsing it tells what is wrong otherwise.
  bool watch(const std::string& text) {
    nlohmann::json_sax<AnyJson>* events = this;
    return AnyJson::sax_parse(text, events);
  }

 protected:
  virtual void on_begin(bool is_object) = 0;
  virtual void on_end(bool is_object) = 0;
  virtual void on_key(const std::string& key) = 0;

 private:
  using Base = nlohmann::json_sax<AnyJson>;

  bool null() final { return true; }
  bool boolean(bool) final { return true; }
  bool number_integer(typename Base::number_integer_t) final { return true; }
  bool number_unsigned(typename Base::number_unsigned_t) final { return true; }
  bool number_float(typename Base::number_float_t, const std::string&) final { return true; }
  bool string(std::string&) final { return true; }
  bool binary(typename Base::binary_t&) final { return true; }
  bool start_object(std::size_t) final {
    on_begin(/*is_object=*/true);
    return true;
  }
  bool key(std::string& key) final {
    on_key(key);
    return true;
  }
  bool end_object() final {
    on_end(/*is_object=*/true);
    return true;
  }
  bool start_array(std::size_t) final {
    on_begin(/*is_object=*/false);
    return true;
  }
  bool end_array() final {
    on_end(/*is_object=*/false);
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) final {
    return false;
  }
};

}  // namespace segmamba
