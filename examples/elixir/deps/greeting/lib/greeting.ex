defmodule Greeting do
  @moduledoc "What the app depends on."

  def for(who), do: "Hello from #{who}."
end
