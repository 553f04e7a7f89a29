#pragma once
// What every use of GDCM needs.

#include <gdcmTag.h>
#include <gdcmTrace.h>

#include <mutex>
#include <new>

namespace segmamba::io {

// GDCM's keyword for it does not compile: its type is one of two.
inline const gdcm::Tag kPixelData(0x7fe0, 0x0010);

// Once a process: GDCM's messages would go to the terminal past the log.
inline void silence_gdcm() {
  static std::once_flag once;
  std::call_once(once, [] {
    gdcm::Trace::DebugOff();
    gdcm::Trace::WarningOff();
    gdcm::Trace::ErrorOff();
  });
}

// Whether call() is true. GDCM throws exceptions, strings and characters at what it does not
// expect. That memory is short is passed on: it is no fault of what is read.
template <class Call>
bool succeeds(Call call) {
  silence_gdcm();
  try {
    return call();
  } catch (const std::bad_array_new_length&) {
    return false;  // of a length that cannot be
  } catch (const std::bad_alloc&) {
    throw;
  } catch (...) {
    return false;
  }
}

}  // namespace segmamba::io
