#pragma once

#include <string>

#include "segmamba/core/error.h"

namespace segmamba::test {

// The message of the Error that `call` throws; "" where it throws none.
template <class Call>
std::string error_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace segmamba::test
